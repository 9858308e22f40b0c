//! Where a model computes, by the names that users give.

use std::fmt::{Display, Formatter};
use std::str::FromStr;

use burn::tensor::Device;

use crate::ModelError;

/// A device by name: `cpu`, `cuda`, `cuda:1`, `wgpu`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The CPU, in Burn's Flex; always there.
    #[default]
    Cpu,
    /// The NVIDIA GPU of this number, from 0; feature `cuda`.
    Cuda(usize),
    /// The GPU that wgpu takes for the fastest; feature `wgpu`.
    Wgpu,
}

impl DeviceChoice {
    /// The device, if this build has code for it and the machine has one.
    ///
    /// # Errors
    /// [`ModelError::Device`] says which of the two is missing.
    pub fn open(self) -> Result<Device, ModelError> {
        match self {
            Self::Cpu => Ok(Device::flex()),
            #[cfg(feature = "cuda")]
            Self::Cuda(index) => {
                let found = Device::enumerate(burn::tensor::DeviceType::Cuda).len();
                if index < found { Ok(Device::cuda(index)) } else { Err(self.problem(&absent(found, "an NVIDIA GPU with its driver"))) }
            }
            #[cfg(feature = "wgpu")]
            Self::Wgpu => {
                let found = Device::enumerate(burn::tensor::DeviceType::Wgpu).len();
                let device = || Device::wgpu(burn::tensor::DeviceKind::DefaultDevice);
                if found > 0 { Ok(device()) } else { Err(self.problem(&absent(found, "a driver for Vulkan, Metal or DirectX 12"))) }
            }
            #[cfg(not(feature = "cuda"))]
            Self::Cuda(_) => Err(self.problem("this program was built without it; build it with `--features cuda`")),
            #[cfg(not(feature = "wgpu"))]
            Self::Wgpu => Err(self.problem("this program was built without it; build it with `--features wgpu`")),
        }
    }

    /// The name of a device that is there.
    pub fn of(device: &Device) -> Self {
        let device = device.clone().inner();
        if device == Device::flex() {
            return Self::Cpu;
        }
        #[cfg(feature = "cuda")]
        if let Some(index) = (0..Device::enumerate(burn::tensor::DeviceType::Cuda).len()).find(|index| device == Device::cuda(*index)) {
            return Self::Cuda(index);
        }
        Self::Wgpu
    }

    fn problem(self, problem: &str) -> ModelError {
        ModelError::Device { device: self.to_string(), problem: problem.to_owned() }
    }
}

#[cfg(feature = "_cube")]
fn absent(found: usize, needed: &str) -> String {
    format!("this machine shows {found} such devices; it needs {needed}, or use `cpu`")
}

impl FromStr for DeviceChoice {
    type Err = ModelError;

    fn from_str(name: &str) -> Result<Self, ModelError> {
        let number = |index: &str| index.parse().ok();
        let choice = match name.split_once(':') {
            None if name == "cpu" => Some(Self::Cpu),
            None if name == "cuda" => Some(Self::Cuda(0)),
            None if name == "wgpu" => Some(Self::Wgpu),
            Some(("cuda", index)) => number(index).map(Self::Cuda),
            _ => None,
        };
        choice.ok_or_else(|| ModelError::Device { device: name.to_owned(), problem: "use cpu, cuda, cuda:NUMBER or wgpu".into() })
    }
}

impl Display for DeviceChoice {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cpu => write!(f, "cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Wgpu => write!(f, "wgpu"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::DeviceChoice;

    #[test]
    fn a_device_is_known_by_the_name_that_it_shows() {
        for choice in [DeviceChoice::Cpu, DeviceChoice::Cuda(0), DeviceChoice::Cuda(3), DeviceChoice::Wgpu] {
            assert_eq!(choice.to_string().parse::<DeviceChoice>().expect("its own name"), choice);
        }
        assert_eq!("cuda".parse::<DeviceChoice>().expect("the first GPU"), DeviceChoice::Cuda(0));
    }

    #[test]
    fn other_names_are_errors_that_list_the_right_ones() {
        for name in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "cpu:0", "CUDA"] {
            let error = name.parse::<DeviceChoice>().expect_err(name).to_string();
            assert!(error.contains(name) && error.contains("cpu, cuda, cuda:NUMBER or wgpu"), "{error}");
        }
    }

    #[test]
    fn what_is_not_there_does_not_open() {
        let error = DeviceChoice::Cuda(1000).open().expect_err("nobody has so many").to_string();
        assert!(error.contains("cuda:1000"), "{error}");
        let cpu = DeviceChoice::Cpu.open().expect("always there");
        assert_eq!(DeviceChoice::of(&cpu.autodiff()), DeviceChoice::Cpu);
    }
}
