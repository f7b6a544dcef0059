"""What changes with a release: work pools, images, automations."""
