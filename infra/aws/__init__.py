"""A cluster on AWS: ``python -m infra.aws up``, ``check`` and ``down``.

Five CloudFormation stacks, deployed in the order of :mod:`infra.aws.stacks`. CloudFormation, since
cfn-lint and moto check its templates without an account, and since it keeps its own state: nothing
has to be stored beside it, and ``down`` knows what there is. docs/aws.md is the guide.
"""
