"""What the papers do with generated images: synthetic sets, folds, classifiers, explanations."""
