//! The engine on a toy world: crashes everywhere, damaged journals, views.

mod corruption;
mod crash;
mod execution;
mod histories;
mod toy;
