"""Makes `import checkpoint`, `import train` and the like work as in a training job.

SageMaker uploads source_dir flat and starts train.py in it, so its modules import one another by these names.
"""

import sys

from workshop import SOURCE_DIR

sys.path.append(str(SOURCE_DIR))  # at the end, so that it shadows nothing
