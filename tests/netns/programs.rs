//! Programs that know nothing of the mesh work through it unmodified, in strict mode.

mod mariadb;
mod nginx;
mod postgres;
mod redis;
mod ssh;
mod streams;
