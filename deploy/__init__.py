"""Deployment beyond docker-compose.yml: the image's own check, and Kubernetes manifests."""
