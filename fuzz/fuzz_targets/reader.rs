//! One program for each target; its name says which.
#![no_main]

use std::sync::LazyLock;

use adpo_fuzz::target::Target;
use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = env!("CARGO_BIN_NAME");
    adpo_fuzz::targets().find(|target| target.name == name).expect("a target of this build; models need `--features models`")
});

fuzz_target!(
    init: {
        // The fuzzer's own hook ends the process at any panic, also at those of libraries that are caught. It looks at what comes out
        // of the target as well.
        std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    },
    |bytes: &[u8]| {
        (TARGET.run)(bytes);
    }
);
