"""What is made in a cluster after its manifests: Secrets, the work pool and the deployments."""
