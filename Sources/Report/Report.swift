/// What an auditor reads.
