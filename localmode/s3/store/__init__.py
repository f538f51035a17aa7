"""The store of S3: buckets, objects and multipart uploads as files, with an index of them in memory.

    layout.py    where buckets, objects, sidecars and uploads lie on disk
    digest.py    ETag and CRC-32 of bytes
    index.py     which buckets and objects exist, in memory
    sidecar.py   headers, tags and digest of an object, on disk
    recovery.py  read the index from disk when the daemon starts
    objects.py   create, read, write and delete buckets and objects
    uploads.py   multipart uploads

A write is on disk before its method returns. Readers never wait for a writer's fsync, and writers of different keys do
not wait for one another's. Therefore no single lock guards everything. In the order in which a thread takes them:

    lock     one for each   guards                                          held over
    bucket   bucket         creating, configuring and deleting the bucket   fsync
    object   bucket, key    one write, tagging or deletion: conditions,     fsync
                            sidecar, file, index, in this order
    upload   upload         putting a part in place, ending the upload      rename, unlink
    names    store          files and directories of objects appear and     mkdir, rename, unlink, rmdir
                            disappear; a bucket leaves the index
    swap     bucket, key    a file and its entry in the index change        rename, unlink, open
                            together: `open` returns matching ones
    digest   bucket, key    one reader computes an unknown digest, others   reading the file
                            of this object wait for its result
    index    store          the index in memory                             nothing else
    uploads  Uploads        the uploads in memory                           nothing else

Readers take `index` only, except for `open`, which also takes `swap`, and for a digest that is not known yet. Results
are snapshots: `StoredObject`, `Bucket` and `Part` are immutable.
"""
