//! Training: what may be asked for, how progress is told, what comes out.

mod plan;
mod results;
mod runs;
mod settings;

pub use plan::*;
pub use results::*;
pub use runs::*;
pub use settings::*;
