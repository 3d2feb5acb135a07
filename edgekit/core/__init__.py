"""The words every room uses: errors, options, registry, model, target, stage, report."""
