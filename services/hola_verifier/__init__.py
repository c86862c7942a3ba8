"""The verifier: holds the target model and says which draft tokens it would have chosen itself."""
