// SPDX-License-Identifier: Apache-2.0
//! A VM's whole life through the crate `cloud-hypervisor-client`, as it comes from its registry.
//!
//! `lifecycle SOCKET CONFIG` creates the VM of a JSON file that has the types of the crate, and
//! prints a line for each step that went as the crate's users expect.

use cloud_hypervisor_client::apis::{DefaultApi, Error};
use cloud_hypervisor_client::models::{VmConfig, VmRemoveDevice, VmResize, VmState};
use cloud_hypervisor_client::{socket_based_api_client, SocketBasedApiClient};
use std::{env, fs, time::Duration};

type Failure = Box<dyn std::error::Error>;

const ATTEMPTS: u32 = 600;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(50);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let mut arguments = env::args().skip(1);
    let socket = arguments.next().ok_or("no SOCKET")?;
    let config = fs::read_to_string(arguments.next().ok_or("no CONFIG")?)?;
    let config: VmConfig = serde_json::from_str(&config)?;
    let api = socket_based_api_client(socket);

    let ping = api.vmm_ping_get().await?;
    done(&format!("ping {}", ping.version));
    refused(api.vm_info_get().await, 404, "info before create")?;
    refused(api.boot_vm().await, 404, "boot before create")?;

    api.create_vm(config.clone()).await?;
    done("create");
    refused(api.create_vm(config.clone()).await, 409, "create twice")?;
    state(&api, VmState::Created).await?;
    edit(&api, &config).await?;

    api.boot_vm().await?;
    done("boot");
    state(&api, VmState::Running).await?;
    refused(api.boot_vm().await, 409, "boot twice")?;
    let counters = api.vm_counters_get().await?;
    done(&format!("counters of {} devices", counters.len()));

    api.pause_vm().await?;
    state(&api, VmState::Paused).await?;
    refused(api.pause_vm().await, 409, "pause twice")?;
    api.resume_vm().await?;
    state(&api, VmState::Running).await?;
    done("pause and resume");

    api.power_button_vm().await?;
    api.vmm_nmi_put().await?;
    api.reboot_vm().await?;
    state(&api, VmState::Running).await?;
    done("reboot");

    api.shutdown_vm().await?;
    refused(api.shutdown_vm().await, 409, "shutdown twice")?;
    api.boot_vm().await?;
    state(&api, VmState::Running).await?;
    done("shutdown and boot");

    api.delete_vm().await?;
    refused(api.vm_info_get().await, 404, "info after delete")?;
    api.shutdown_vmm().await?;
    done("shutdown of the VMM");
    Ok(())
}

/// Change the stored configuration, as is possible before the first boot.
async fn edit(api: &SocketBasedApiClient, config: &VmConfig) -> Result<(), Failure> {
    let unknown = VmRemoveDevice { id: Some("nobody".to_owned()) };
    refused(api.vm_remove_device_put(unknown).await, 404, "removal of an unknown device")?;
    let mut more = VmResize::new();
    more.desired_ram = config.memory.as_ref().map(|memory| memory.size * 2);
    api.vm_resize_put(more).await?;
    let size = api.vm_info_get().await?.config.memory.map(|memory| memory.size);
    if size != config.memory.as_ref().map(|memory| memory.size * 2) {
        return Err(format!("after vm.resize the memory is {size:?}").into());
    }
    done("resize");
    Ok(())
}

/// Wait until the VM is in a state; the whole of `vm.info` has to have the crate's types.
async fn state(api: &SocketBasedApiClient, expected: VmState) -> Result<(), Failure> {
    for _ in 0..ATTEMPTS {
        if api.vm_info_get().await?.state == expected {
            return Ok(());
        }
        tokio::time::sleep(BETWEEN_ATTEMPTS).await;
    }
    Err(format!("the VM did not become {expected}").into())
}

/// Check that a call failed with a status, and that its body says why.
fn refused<T>(result: Result<T, Error>, status: u16, what: &str) -> Result<(), Failure> {
    match result {
        Err(Error::Api(error)) if error.code.as_u16() == status && error.body.contains("\"code\"") => {
            done(&format!("{what}: {status}"));
            Ok(())
        }
        Err(error) => Err(format!("{what}: {error}").into()),
        Ok(_) => Err(format!("{what} was not refused").into()),
    }
}

fn done(step: &str) {
    println!("{step}");
}
