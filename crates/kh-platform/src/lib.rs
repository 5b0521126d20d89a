//! Platform adapters: Genesys Cloud CX, NICE CXone and any RFC 6749 issuer.
