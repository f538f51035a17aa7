"""SageMaker hosting: endpoints, their model servers and InvokeEndpoint."""
