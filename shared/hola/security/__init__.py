"""Who is calling: certificates, credentials, tenants, and what is never logged."""
