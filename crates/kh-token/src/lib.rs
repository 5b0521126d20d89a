//! The token core: what to do about one credential's token, decided from state, input and now.
