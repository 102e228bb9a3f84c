"""What Locust is started with: `locust -f load/locustfile.py`. The users themselves are in `load.users`."""

from load.users.locustfile import GatewayUser, MixedUser, ScenarioShape, TextUser, TritonGrpcUser, TritonHttpUser

__all__ = ["GatewayUser", "MixedUser", "ScenarioShape", "TextUser", "TritonGrpcUser", "TritonHttpUser"]
