//! Seams to the outside world. Object stores are opened here and nowhere else; tests wrap them in a twin that fails,
//! throttles and lies.

pub mod faulty;
pub mod objects;
