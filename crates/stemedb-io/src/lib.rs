//! The doors to the outside: files, time and chance; the real ones and the simulated ones.
