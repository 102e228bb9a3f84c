"""The endpoints. Each reads its request, asks the service, and writes its answer in the shape of its clients."""
