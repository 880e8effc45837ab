"""What rollouts are counted by. No label is a tenant's."""

from prometheus_client import Counter

observations = Counter(
    "custos_rollout_observations", "Requests that were part of a rollout.", ["arm", "outcome"]
)
