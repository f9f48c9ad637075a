//! The engine through its door, on the simulated world and on the real disk.

mod engine {
    mod crash;
    mod damage;
    mod faults;
    mod model;
    mod real;
    mod scale;
    mod support;
}
