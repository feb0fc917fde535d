"""Third-party packages made importable and quiet; prepared by `import parcnet_train`."""
