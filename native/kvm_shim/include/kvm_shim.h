/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvm_shim: the public interface of Velum's C core.
 *
 * Rules that every function here keeps:
 *  - it returns 0 (or a documented non-negative value) or a negative errno, and on
 *    failure fills *err (which may be NULL) with the same code and a sentence that
 *    names the step and the value that failed;
 *  - it never prints, never exits, keeps no process-wide state, installs no signal
 *    handler, and starts no thread that kvmshim_vm_destroy() does not stop and join;
 *  - pointers passed in are not kept after the call returns;
 *  - file descriptors passed in stay the caller's: the shim duplicates what it keeps.
 *
 * Threads: one control thread at a time may call functions on a VM, save for
 * kvmshim_vcpu_counters(), kvmshim_device_counters(), kvmshim_vm_event_next(),
 * kvmshim_vm_pause() and kvmshim_vm_nmi(), which any thread may call while the VM exists.
 *
 * PCI devices are in kvm_shim_virtio.h. The text between the two "cffi" marks of each is
 * read by build_native.py as the Python binding's declarations, so it holds plain C
 * declarations only (no macros).
 */
#ifndef KVM_SHIM_H
#define KVM_SHIM_H

#include <stddef.h>
#include <stdint.h>

/* cffi: begin */

/* ---- errors ------------------------------------------------------------ */

typedef struct kvmshim_error {
    int32_t code;      /* negative errno, 0 when nothing failed */
    char context[252]; /* NUL-terminated: what failed, with the value at fault */
} kvmshim_error;

/* ---- the host ---------------------------------------------------------- */

typedef struct kvmshim_host {
    uint32_t api_version;       /* always 12 */
    uint32_t recommended_vcpus; /* KVM_CAP_NR_VCPUS */
    uint32_t max_vcpus;         /* KVM_CAP_MAX_VCPUS */
    uint32_t max_vcpu_id;       /* KVM_CAP_MAX_VCPU_ID */
    uint32_t memory_slots;      /* KVM_CAP_NR_MEMSLOTS */
} kvmshim_host;

typedef struct kvmshim_cpuid_entry { /* layout of struct kvm_cpuid_entry2 without padding */
    uint32_t function, index, flags, eax, ebx, ecx, edx;
} kvmshim_cpuid_entry;

/* Open `device` (usually "/dev/kvm"), check the API version and every capability the
 * shim needs; the error names each missing one. */
int kvmshim_host_probe(const char *device, kvmshim_host *host, kvmshim_error *err);

/* KVM_GET_SUPPORTED_CPUID. *count is set to the number of entries; -E2BIG when it is
 * more than capacity. */
int kvmshim_host_cpuid(const char *device, kvmshim_cpuid_entry *entries, uint32_t capacity,
                       uint32_t *count, kvmshim_error *err);

/* ---- the process's own confinement --------------------------------------- */

/* What is allowed of a file, or of everything below a directory. */
enum {
    KVMSHIM_LANDLOCK_READ = 1,    /* read files, list directories */
    KVMSHIM_LANDLOCK_WRITE = 2,   /* write and truncate files */
    KVMSHIM_LANDLOCK_MAKE = 4,    /* make and remove files and sockets in a directory */
    KVMSHIM_LANDLOCK_CONTROL = 8, /* ioctls of devices opened from then on */
    KVMSHIM_LANDLOCK_CLEAR = 16   /* remove empty directories in a directory */
};

/* The version of Landlock that the kernel has, from 1; -ENOSYS when it has none, -EOPNOTSUPP when
 * it was not enabled at the boot of the host. */
int kvmshim_landlock_version(kvmshim_error *err);

/* Return the descriptor of a ruleset that allows nothing: no file, and no TCP. It forbids what
 * this kernel's Landlock can; the caller closes it. */
int kvmshim_landlock_create(kvmshim_error *err);

/* Add what a path allows. The rule is about the file that is there now, not about its name. */
int kvmshim_landlock_allow(int ruleset, const char *path, uint32_t access, kvmshim_error *err);

/* Enforce the ruleset on the calling thread, and on those that it makes from then on, for good,
 * with no_new_privs: call it on each thread of the process. -E2BIG after sixteen of them. */
int kvmshim_landlock_restrict(int ruleset, kvmshim_error *err);

/* ---- a virtual machine ------------------------------------------------- */

typedef struct kvmshim_vm kvmshim_vm;
typedef struct kvmshim_device kvmshim_device;

/* KVM_CREATE_VM, TSS and identity-map addresses, in-kernel irqchip (PIC, IOAPIC, LAPICs)
 * with its default GSI routes. The VM has no memory, no vCPU and no device yet. */
int kvmshim_vm_create(const char *device, kvmshim_vm **vm, kvmshim_error *err);

/* Stop and join every thread, close every fd, unmap and free everything, devices
 * included. NULL is allowed. Cannot fail. */
void kvmshim_vm_destroy(kvmshim_vm *vm);

/* Start one thread for each vCPU, all parked (the VM is paused). Call once, when every
 * vCPU exists and its state is set. */
int kvmshim_vm_start(kvmshim_vm *vm, kvmshim_error *err);

/* Let the vCPU threads run. -EALREADY when they do. */
int kvmshim_vm_resume(kvmshim_vm *vm, kvmshim_error *err);

/* Park every vCPU thread with its pending I/O completed, so that its state can be saved,
 * and quiesce the devices, whose I/O in flight is completed. -EALREADY when paused, -ETIMEDOUT
 * (and the VM running as before) when a vCPU or a device did not stand still in time. */
int kvmshim_vm_pause(kvmshim_vm *vm, uint32_t timeout_ms, kvmshim_error *err);

/* Inject an NMI into every vCPU; one that is parked takes it when it runs again. */
int kvmshim_vm_nmi(kvmshim_vm *vm, kvmshim_error *err);

/* ---- memory ------------------------------------------------------------ */

enum {
    KVMSHIM_MEMORY_HUGEPAGES = 1, /* MFD_HUGETLB with the host's default huge page */
    KVMSHIM_MEMORY_THP = 2,       /* madvise(MADV_HUGEPAGE) */
    KVMSHIM_MEMORY_SHARED = 4,    /* on a memfd, for processes that are to map it too */
    KVMSHIM_MEMORY_RESERVE = 8    /* have the host set the pages aside now: -ENOMEM */
};

/* In the flags with _HUGEPAGES: the binary logarithm of the huge page's size in bytes, for
 * another than the host's default; -ENODEV when the host does not have it. */
enum { KVMSHIM_MEMORY_HUGE_SHIFT = 26 };

/*
 * Add `size` bytes (a multiple of 4096) of RAM at `gpa`, never merged by KSM, with a KVM
 * memory slot. It is on a memfd of its own with _SHARED or _HUGEPAGES, and private memory
 * without: Linux backs private memory with transparent huge pages by default, a memfd only
 * where the administrator allows it. -EEXIST when it overlaps other RAM.
 */
int kvmshim_memory_add(kvmshim_vm *vm, uint64_t gpa, uint64_t size, uint32_t flags,
                       kvmshim_error *err);

/* Have the host provide the pages of a range of guest RAM now, whole pages of 4096 bytes,
 * whose contents stay as they are. It takes its time: of much RAM, ask for one part after
 * the other. -EFAULT where there is no RAM, -ENOMEM when the host has no more. */
int kvmshim_memory_prefault(kvmshim_vm *vm, uint64_t gpa, uint64_t size, kvmshim_error *err);

/* Copy between guest RAM and the caller. The whole range must lie in RAM (it may span
 * adjacent slots): -EFAULT otherwise, and nothing is copied. */
int kvmshim_memory_write(kvmshim_vm *vm, uint64_t gpa, const void *data, uint64_t size,
                         kvmshim_error *err);
int kvmshim_memory_read(kvmshim_vm *vm, uint64_t gpa, void *data, uint64_t size,
                        kvmshim_error *err);

/* Read `size` bytes of the file at `offset` straight into guest RAM; -EIO when the file
 * is shorter. */
int kvmshim_memory_load(kvmshim_vm *vm, uint64_t gpa, int fd, uint64_t offset, uint64_t size,
                        kvmshim_error *err);

/* ---- interrupts and doorbells ------------------------------------------ */

/* Set the level of an IOAPIC/PIC pin (KVM_IRQ_LINE). */
int kvmshim_irq_line(kvmshim_vm *vm, uint32_t gsi, int level, kvmshim_error *err);

/* Route `gsi` (>= 24) to an MSI; replaces the route it had. Legacy pins are kept. */
int kvmshim_irq_route_msi(kvmshim_vm *vm, uint32_t gsi, uint64_t address, uint32_t data,
                          kvmshim_error *err);
int kvmshim_irq_unroute(kvmshim_vm *vm, uint32_t gsi, kvmshim_error *err);

/* Bind the eventfd to `gsi` / unbind it. */
int kvmshim_irqfd_add(kvmshim_vm *vm, int eventfd, uint32_t gsi, kvmshim_error *err);
int kvmshim_irqfd_remove(kvmshim_vm *vm, int eventfd, uint32_t gsi, kvmshim_error *err);

enum { KVMSHIM_SPACE_PIO = 0, KVMSHIM_SPACE_MMIO = 1 };

/* Have KVM signal the eventfd when the guest writes `size` (0, 1, 2, 4, 8; 0 = any)
 * bytes at `address`. When `match` is not 0, only for the value `value`. */
int kvmshim_ioeventfd_add(kvmshim_vm *vm, int space, uint64_t address, uint32_t size, int match,
                          uint64_t value, int eventfd, kvmshim_error *err);
int kvmshim_ioeventfd_remove(kvmshim_vm *vm, int space, uint64_t address, uint32_t size,
                             int match, uint64_t value, int eventfd, kvmshim_error *err);

/* Perform one access (size 1, 2, 4 or 8) on the VM's bus as a vCPU would; for debuggers
 * and tests. Reads of nothing give all ones. Returns 1 when a device claimed it, 0 if none. */
int kvmshim_bus_access(kvmshim_vm *vm, int space, uint64_t address, int is_write, void *data,
                       uint32_t size, kvmshim_error *err);

/* ---- vCPUs ------------------------------------------------------------- */

typedef struct kvmshim_msr {
    uint32_t index;
    uint64_t data;
} kvmshim_msr;

typedef struct kvmshim_registers {
    uint64_t rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp;
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
    uint64_t rip, rflags;
    uint64_t cr0, cr2, cr3, cr4, efer;
    uint16_t cs, ss;
} kvmshim_registers;

/* Where the boot structures go in guest RAM and what the boot vCPU starts with. */
typedef struct kvmshim_boot {
    uint64_t entry;       /* first instruction */
    uint64_t argument;    /* rsi: zero page (64-bit Linux); rbx: start_info (PVH) */
    uint64_t stack;       /* initial rsp */
    uint64_t gdt;         /* 40 bytes: the GDT, and an empty IDT at gdt + 0x20 */
    uint64_t page_tables; /* six pages, 64-bit entry only: maps the first 4 GiB 1:1 */
} kvmshim_boot;

/* Create vCPU number `index` with that APIC id, before the VM is started. Indices are 0, 1,
 * 2, ... in order. Sets what a CPU has at reset beyond KVM's defaults: FPU, LAPIC LINT0/1. */
int kvmshim_vcpu_create(kvmshim_vm *vm, uint32_t index, uint32_t apic_id, kvmshim_error *err);

/* KVM_SET_CPUID2, and then the MSRs that a CPU has at reset beyond KVM's defaults (which of
 * them there are is CPUID's matter). Call before the next three. */
int kvmshim_vcpu_set_cpuid(kvmshim_vm *vm, uint32_t index, const kvmshim_cpuid_entry *entries,
                           uint32_t count, kvmshim_error *err);
int kvmshim_vcpu_set_msrs(kvmshim_vm *vm, uint32_t index, const kvmshim_msr *msrs,
                          uint32_t count, kvmshim_error *err);

/* Write the boot GDT, IDT and page tables to RAM and set the registers of the 64-bit
 * Linux entry (Documentation/arch/x86/boot.rst) or of the PVH entry (32-bit protected
 * mode, paging off). The other vCPUs stay in reset and wait for INIT/SIPI. */
int kvmshim_vcpu_enter_linux64(kvmshim_vm *vm, uint32_t index, const kvmshim_boot *boot,
                               kvmshim_error *err);
int kvmshim_vcpu_enter_pvh(kvmshim_vm *vm, uint32_t index, const kvmshim_boot *boot,
                           kvmshim_error *err);

/* The VM must be paused (or not started) for these. */
int kvmshim_vcpu_registers(kvmshim_vm *vm, uint32_t index, kvmshim_registers *regs,
                           kvmshim_error *err);

/* ---- where vCPUs run --------------------------------------------------- */

enum {
    KVMSHIM_CORE_VM = 1,  /* the vCPUs of this VM may share a core of the host */
    KVMSHIM_CORE_VCPU = 2 /* each vCPU has a core of the host to itself while it runs */
};

/* Keep the host from running anything else beside the vCPUs' threads on one core (core
 * scheduling). After kvmshim_vm_start(). -EOPNOTSUPP when the kernel cannot, -ENODEV when no
 * core has more than one hardware thread, so that there is nothing to keep away. */
int kvmshim_vm_core_scheduling(kvmshim_vm *vm, int scope, kvmshim_error *err);

/* Have one vCPU's thread run on these CPUs of the host alone. After kvmshim_vm_start().
 * -ENODEV when one of them is not there for us. */
int kvmshim_vcpu_set_affinity(kvmshim_vm *vm, uint32_t index, const uint32_t *cpus,
                              uint32_t count, kvmshim_error *err);

/* ---- saved state ------------------------------------------------------- */

/* Save writes a self-describing, versioned blob and sets *size to its length; with
 * data == NULL it only sets *size. Load refuses a blob of another kind, version or length
 * with -EINVAL and then changes nothing. The VM must be paused or not started.
 *
 * A VM, its vCPUs and its devices are loaded in any order, into a VM with the same devices,
 * made in the same order. A loaded PCI device does nothing before the VM is resumed. */
int kvmshim_vcpu_save(kvmshim_vm *vm, uint32_t index, void *data, uint64_t capacity,
                      uint64_t *size, kvmshim_error *err);
int kvmshim_vcpu_load(kvmshim_vm *vm, uint32_t index, const void *data, uint64_t size,
                      kvmshim_error *err);
/* The in-kernel irqchip, the GSI routes and kvmclock. */
int kvmshim_vm_save(kvmshim_vm *vm, void *data, uint64_t capacity, uint64_t *size,
                    kvmshim_error *err);
int kvmshim_vm_load(kvmshim_vm *vm, const void *data, uint64_t size, kvmshim_error *err);
int kvmshim_device_save(kvmshim_device *device, void *data, uint64_t capacity, uint64_t *size,
                        kvmshim_error *err);
int kvmshim_device_load(kvmshim_device *device, const void *data, uint64_t size,
                        kvmshim_error *err);

/* ---- events and counters ----------------------------------------------- */

enum {
    KVMSHIM_EVENT_RESET = 1,          /* the guest asked for a reset (i8042, ACPI, KVM) */
    KVMSHIM_EVENT_POWER_OFF = 2,      /* the guest entered ACPI S5 (or KVM said so) */
    KVMSHIM_EVENT_TRIPLE_FAULT = 3,   /* KVM_EXIT_SHUTDOWN */
    KVMSHIM_EVENT_INTERNAL_ERROR = 4, /* KVM_EXIT_INTERNAL_ERROR / FAIL_ENTRY / KVM_RUN errno */
    KVMSHIM_EVENT_GUEST_PANIC = 5,    /* the guest reported a crash */
    KVMSHIM_EVENT_SERIAL_HANGUP = 6,  /* the peer of a serial port or console went away */
    KVMSHIM_EVENT_PANICKED = 7,       /* the guest reported a crash and goes on running */
    KVMSHIM_EVENT_DEVICE_LOG = 8,     /* something to tell the operator: see `text` */
    KVMSHIM_EVENT_DEVICE_ACTIVATED = 9, /* the guest's driver took a device into use */
    KVMSHIM_EVENT_DEVICE_RESET = 10     /* ... gave it back */
};

typedef struct kvmshim_event {
    uint32_t kind;
    uint32_t vcpu;         /* of the first five kinds; 0xffffffff when none */
    uint64_t time_ns;      /* CLOCK_MONOTONIC */
    uint64_t detail[2];    /* of INTERNAL_ERROR: see `source`; and KVM's exit reason.
                              Of PANICKED: the bits that the guest wrote. */
    /*
     * The device ("i8042", "acpi_pm", "serial", ...) or "kvm". Of INTERNAL_ERROR, what
     * detail[0] is: KVM's suberror ("kvm_internal"), the hardware's reason ("kvm_entry",
     * "kvm_unknown"), an exit that nobody asked for ("kvm_exit"), or the errno of KVM_RUN
     * ("kvm_run").
     */
    char source[32];
    char text[128];              /* of PANICKED and DEVICE_LOG: a sentence */
    kvmshim_registers registers; /* of INTERNAL_ERROR and TRIPLE_FAULT */
} kvmshim_event;

/* An eventfd, readable while events are queued; it belongs to the VM. */
int kvmshim_vm_event_fd(kvmshim_vm *vm);

/* 1 and the oldest event, or 0 when there is none. One of the first five kinds comes once,
 * and when it is here the vCPU threads are parked for good: no guest instruction runs,
 * kvmshim_vm_pause() succeeds at once and kvmshim_vm_resume() says -ESHUTDOWN. */
int kvmshim_vm_event_next(kvmshim_vm *vm, kvmshim_event *event);

enum {
    KVMSHIM_EXIT_IO = 0,
    KVMSHIM_EXIT_MMIO = 1,
    KVMSHIM_EXIT_HLT = 2,
    KVMSHIM_EXIT_INTERRUPTED = 3,
    KVMSHIM_EXIT_SHUTDOWN = 4,
    KVMSHIM_EXIT_SYSTEM_EVENT = 5,
    KVMSHIM_EXIT_ERROR = 6,
    KVMSHIM_EXIT_OTHER = 7,
    KVMSHIM_EXIT_KINDS = 8
};

typedef struct kvmshim_counters {
    uint64_t exits[8];     /* by the kinds above */
    uint64_t unclaimed_io; /* accesses that no device claimed */
    uint64_t unclaimed_mmio;
    uint64_t first_run_ns; /* CLOCK_MONOTONIC of the first KVM_RUN; 0 before it */
    uint64_t cpu_ns;       /* CPU time of the vCPU's thread, most of it the guest's */
} kvmshim_counters;

/* Of one vCPU, while it runs. */
int kvmshim_vcpu_counters(kvmshim_vm *vm, uint32_t index, kvmshim_counters *counters,
                          kvmshim_error *err);

/* ---- devices ----------------------------------------------------------- */

/* Each belongs to the VM, which frees it. `device` may be NULL when no handle is needed. */

/* 16550A at `port` (8 ports), interrupt `gsi`. Without a peer its output is kept in a
 * 64 KiB ring that forgets the oldest bytes. */
int kvmshim_serial_create(kvmshim_vm *vm, uint16_t port, uint32_t gsi, kvmshim_device **device,
                          kvmshim_error *err);
/* Connect input and output (-1 for none; they may be the same fd) in place of what was
 * connected; what the ring keeps is sent first. */
int kvmshim_serial_attach(kvmshim_device *serial, int input, int output, kvmshim_error *err);
int kvmshim_serial_detach(kvmshim_device *serial, kvmshim_error *err);

/* Ports 0x60-0x64: enough of a keyboard controller for the reset command. */
int kvmshim_i8042_create(kvmshim_vm *vm, kvmshim_device **device, kvmshim_error *err);

/* CMOS clock at 0x70/0x71, UTC, with the RAM size bytes firmware asks for. */
int kvmshim_rtc_create(kvmshim_vm *vm, uint64_t ram_below_4g, uint64_t ram_above_4g,
                       kvmshim_device **device, kvmshim_error *err);

/* ACPI: sleep control/status and reset register (1 byte) at `sleep_port`, 3.579545 MHz
 * timer (4 bytes) at `timer_port`. */
int kvmshim_acpi_pm_create(kvmshim_vm *vm, uint16_t sleep_port, uint16_t timer_port,
                           kvmshim_device **device, kvmshim_error *err);

/* Generic Event Device: one read-to-clear byte of flags at `gpa`, interrupt `gsi`. */
enum { KVMSHIM_GED_CPU = 1, KVMSHIM_GED_MEMORY = 2, KVMSHIM_GED_PCI = 4, KVMSHIM_GED_POWER = 8 };
int kvmshim_ged_create(kvmshim_vm *vm, uint64_t gpa, uint32_t gsi, kvmshim_device **device,
                       kvmshim_error *err);
int kvmshim_ged_notify(kvmshim_device *ged, uint8_t flags, kvmshim_error *err);

/* Port 0x80: keeps the first 64 writes as boot timestamps. */
typedef struct kvmshim_boot_stamp {
    uint64_t time_ns; /* CLOCK_MONOTONIC */
    uint32_t code;
} kvmshim_boot_stamp;
int kvmshim_debug_port_create(kvmshim_vm *vm, uint16_t port, kvmshim_device **device,
                              kvmshim_error *err);
int kvmshim_debug_port_stamps(kvmshim_device *port, kvmshim_boot_stamp *stamps,
                              uint32_t capacity, uint32_t *count, kvmshim_error *err);

/* PCI segment 0, bus 0: configuration mechanism 1 (0xcf8-0xcff) and ECAM (1 MiB at
 * `ecam`), with a host bridge 8086:0d57 at 00:00.0. */
int kvmshim_pci_create(kvmshim_vm *vm, uint64_t ecam, kvmshim_device **device,
                       kvmshim_error *err);

/* cffi: end */

#endif
