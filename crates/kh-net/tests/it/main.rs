//! kh-net against real sockets.
