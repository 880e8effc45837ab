"""From what somebody asks for to who answers: routes, deployments and their instances, rollouts."""
