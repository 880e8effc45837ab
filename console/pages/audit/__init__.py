"""The pages of the audit: finding and reading records, review, cases, proof, retention and readers."""
