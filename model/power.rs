//! Power cuts and failing disks under the real engines: whole lives are recorded once on a simulated
//! disk, and every instant of them is cut, in every way that the disk allows.

mod check;
mod cuts;
mod disk;
mod engines;
mod failing;
mod life;
mod log;
mod place;
mod promise;
mod teeth;
mod tree;

pub use disk::serve;
pub use failing::try_act;
pub use life::act;
