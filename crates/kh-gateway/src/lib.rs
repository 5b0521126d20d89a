//! The outbound gateway: an application's own token in, the platform's token out.
