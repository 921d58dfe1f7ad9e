"""The model owner's side: the only code that may hold the target model."""
