//! A faithful local Genesys Cloud and NICE CXone to test against.
