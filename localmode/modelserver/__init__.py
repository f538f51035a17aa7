"""The process that serves a model, as SageMaker's TensorFlow inference container does."""
