"""From a recipe and targets to reports and bundles: plan, run, store, judge. No framework here."""
