//! Where tensors live.

use tch::{Cuda, Device};

use counterweight::error::{Result, invalid};
use counterweight::job::DeviceSpec;

/// The device that `spec` names.
///
/// # Errors
/// Where it is a GPU that this machine, or this build of libtorch, does not have.
pub fn device(spec: DeviceSpec) -> Result<Device> {
    match spec {
        DeviceSpec::Auto => Ok(Device::cuda_if_available()),
        DeviceSpec::Cpu => Ok(Device::Cpu),
        DeviceSpec::Cuda(index) => {
            let count = if Cuda::is_available() { Cuda::device_count().max(0) as usize } else { 0 };
            if index >= count {
                let found = match count {
                    0 => "libtorch finds no GPU".to_owned(),
                    _ => format!("the GPUs here are cuda:0 to cuda:{}", count - 1),
                };
                invalid!("device = \"cuda:{index}\": {found}; write auto or cpu, or install libtorch for CUDA");
            }
            Ok(Device::Cuda(index))
        }
    }
}

/// How `device` is written in a job file.
pub fn device_name(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        _ => "cpu".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_gpu_is_named() {
        assert_eq!(device(DeviceSpec::Cpu).unwrap(), Device::Cpu);
        let error = device(DeviceSpec::Cuda(99)).unwrap_err().to_string();
        assert!(error.contains("cuda:99") && error.contains("cpu"), "{error}");
    }
}
