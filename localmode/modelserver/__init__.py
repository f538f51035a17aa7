"""The process of a model server; it imitates SageMaker's TensorFlow inference container."""
