//! Writes the CUDA C++ of every kernel into a folder: `cuda_sources target/cuda`, for `tests/cuda/nvrtc.py` to compile.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: cuda_sources FOLDER");
        return ExitCode::FAILURE;
    };
    let write = || -> Result<usize, String> {
        std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let sources = adpo_model::kernels::cuda_sources()?;
        for (name, source) in &sources {
            let path = folder.join(format!("{name}.cu"));
            std::fs::write(&path, source).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(sources.len())
    };
    match write() {
        Ok(kernels) => println!("{kernels} kernels in {}", folder.display()),
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
