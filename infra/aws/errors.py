"""The one error of the commands for AWS."""


class AwsError(Exception):
    """Something in the account is not as it has to be; the message says what to do."""
