"""The parts that the manifests use of kinds which Kubernetes itself does not have; a misspelt key is refused.

Written after the operators' own definitions, of which this is the part that we need.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
TEXT: Schema = {"type": "string", "minLength": 1}
NUMBER: Schema = {"type": "integer", "minimum": 0}
ANY: Schema = {"type": "object"}


def parts(required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    """An object with these keys and no others."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


def each(item: Schema) -> Schema:
    """A list of one or more."""
    return {"type": "array", "items": item, "minItems": 1}


def one_of(*values: str) -> Schema:
    """One of these words."""
    return {"enum": list(values)}


# The scaler's own keys and values are texts.
_POSTGRES = parts({"query": TEXT, "targetQueryValue": {"type": "string", "pattern": r"^[1-9]\d*$"}})
_TRIGGER = parts(
    {
        "type": one_of("postgresql"),
        "name": TEXT,
        "metadata": _POSTGRES,
        "authenticationRef": parts({"name": TEXT}),
    },
    {"metricType": one_of("AverageValue", "Value")},
)
_PATH = parts({"type": one_of("Exact", "PathPrefix"), "value": TEXT})
_REMOTE = parts({"secretKey": TEXT, "remoteRef": parts({"key": TEXT, "property": TEXT})})

SPECS: dict[tuple[str, str], Schema] = {
    ("keda.sh/v1alpha1", "ScaledObject"): parts(
        {
            "scaleTargetRef": parts({"name": TEXT}),
            "pollingInterval": NUMBER,
            "minReplicaCount": NUMBER,
            "maxReplicaCount": NUMBER,
            "triggers": each(_TRIGGER),
        },
        {
            "fallback": parts(
                {"failureThreshold": NUMBER, "replicas": NUMBER},
                {"behavior": one_of("static", "currentReplicas", "currentReplicasIfHigher")},
            ),
            # Its `behavior` is the one of a HorizontalPodAutoscaler.
            "advanced": parts({"horizontalPodAutoscalerConfig": parts({"behavior": ANY})}),
        },
    ),
    ("keda.sh/v1alpha1", "TriggerAuthentication"): parts(
        {"secretTargetRef": each(parts({"parameter": one_of("connection"), "name": TEXT, "key": TEXT}))}
    ),
    ("monitoring.coreos.com/v1", "ServiceMonitor"): parts(
        {
            "selector": ANY,
            "jobLabel": TEXT,
            "endpoints": each(
                parts(
                    {"port": TEXT, "path": TEXT, "interval": TEXT},
                    {"relabelings": each(parts({"sourceLabels": each(TEXT), "targetLabel": TEXT}))},
                )
            ),
        }
    ),
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): parts(
        {
            "parentRefs": each(parts({"name": TEXT}, {"namespace": TEXT, "sectionName": TEXT})),
            "hostnames": each(TEXT),
            "rules": each(
                parts(
                    {
                        "matches": each(parts({"path": _PATH})),
                        "backendRefs": each(parts({"name": TEXT, "port": NUMBER})),
                    },
                    {"timeouts": parts({"request": TEXT})},
                )
            ),
        }
    ),
    ("external-secrets.io/v1", "ExternalSecret"): parts(
        {
            "refreshInterval": TEXT,
            "secretStoreRef": parts({"kind": one_of("SecretStore", "ClusterSecretStore"), "name": TEXT}),
            "target": parts({"name": TEXT, "creationPolicy": one_of("Owner")}),
            "data": each(_REMOTE),
        }
    ),
    ("postgresql.cnpg.io/v1", "Cluster"): parts(
        {
            "imageName": TEXT,
            "instances": NUMBER,
            "bootstrap": parts({"initdb": parts({"database": TEXT, "owner": TEXT})}),
            "postgresql": parts(
                {
                    "parameters": {"type": "object", "additionalProperties": TEXT},
                    "synchronous": parts(
                        {
                            "method": one_of("any", "first"),
                            "number": NUMBER,
                            "dataDurability": one_of("required", "preferred"),
                            "failoverQuorum": {"type": "boolean"},
                        }
                    ),
                }
            ),
            # As a pod has them.
            "topologySpreadConstraints": each(ANY),
            "affinity": parts({"podAntiAffinityType": one_of("preferred", "required"), "topologyKey": TEXT}),
            "resources": ANY,
            "storage": parts({"size": TEXT}),
            "walStorage": parts({"size": TEXT}),
        }
    ),
}
