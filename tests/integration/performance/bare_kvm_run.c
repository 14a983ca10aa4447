/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The least that runs a guest: ioctl(KVM_RUN) in a loop that only looks at the exit reason.
 * What a port exit costs here is the host's price; a monitor can only add to it.
 *
 *     bare_kvm_run GUEST.elf EXITS
 *
 * enters the ELF64 image by its PVH entry point (the image's e_entry), lets it do some exits
 * to warm up, then EXITS more, and prints the nanoseconds of CPU time that each of those took.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

enum { RAM_SIZE = 4 << 20, WARM_UP = 256, CPUID_ENTRIES = 256, TSS = 0xfffbd000 };

static _Noreturn void fail(const char *step)
{
    fprintf(stderr, "bare_kvm_run: %s: %s\n", step, strerror(errno));
    exit(1);
}

static int checked(int result, const char *step)
{
    if (result < 0)
        fail(step);
    return result;
}

static void *mapped(int fd, size_t size, int flags, const char *step)
{
    void *area = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);

    if (area == MAP_FAILED)
        fail(step);
    return area;
}

/* Copy the image's segments to RAM and return its entry point. */
static uint64_t load(const char *path, uint8_t *ram)
{
    static uint8_t image[1 << 20];
    const Elf64_Ehdr *header = (const void *)image;
    const Elf64_Phdr *segment;
    FILE *file = fopen(path, "rb");
    size_t size;

    if (!file)
        fail(path);
    size = fread(image, 1, sizeof(image), file);
    fclose(file);
    errno = ENOEXEC;
    if (size < sizeof(*header) || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 ||
        header->e_phoff > size - header->e_phnum * sizeof(*segment))
        fail(path);
    segment = (const void *)(image + header->e_phoff);
    for (unsigned i = 0; i < header->e_phnum; i++, segment++) {
        if (segment->p_type != PT_LOAD)
            continue;
        if (segment->p_offset > size || segment->p_filesz > size - segment->p_offset ||
            segment->p_paddr > RAM_SIZE || segment->p_filesz > RAM_SIZE - segment->p_paddr)
            fail(path);
        memcpy(ram + segment->p_paddr, image + segment->p_offset, segment->p_filesz);
    }
    return header->e_entry;
}

/* The PVH entry: 32-bit protected mode, flat segments, paging off. */
static void enter(int vcpu, uint64_t entry)
{
    struct kvm_segment data = {
        .limit = 0xffffffff, .selector = 0x18, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1,
    };
    struct kvm_regs regs = {.rip = entry, .rflags = 2};
    struct kvm_sregs sregs;

    checked(ioctl(vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
    sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
    sregs.cs = data;
    sregs.cs.selector = 0x10;
    sregs.cs.type = 11;
    sregs.cr0 |= 1;
    checked(ioctl(vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
    checked(ioctl(vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
}

static void set_cpuid(int kvm, int vcpu)
{
    struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + CPUID_ENTRIES * sizeof(*cpuid->entries));

    if (!cpuid)
        fail("calloc");
    cpuid->nent = CPUID_ENTRIES;
    checked(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid), "KVM_GET_SUPPORTED_CPUID");
    checked(ioctl(vcpu, KVM_SET_CPUID2, cpuid), "KVM_SET_CPUID2");
    free(cpuid);
}

static void run(int vcpu, const struct kvm_run *shared, unsigned long exits)
{
    for (unsigned long i = 0; i < exits; i++) {
        checked(ioctl(vcpu, KVM_RUN, 0), "KVM_RUN");
        if (shared->exit_reason != KVM_EXIT_IO) {
            fprintf(stderr, "bare_kvm_run: exit reason %u\n", shared->exit_reason);
            exit(1);
        }
    }
}

int main(int argc, char **argv)
{
    unsigned long exits = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;
    struct kvm_userspace_memory_region region = {.memory_size = RAM_SIZE};
    struct kvm_run *shared;
    struct timespec start, end;
    int kvm, vm, vcpu, size;
    uint8_t *ram;

    if (exits == 0) {
        fprintf(stderr, "usage: bare_kvm_run GUEST.elf EXITS\n");
        return 2;
    }
    kvm = checked(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
    vm = checked(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
    checked(ioctl(vm, KVM_SET_TSS_ADDR, TSS), "KVM_SET_TSS_ADDR");
    checked(ioctl(vm, KVM_CREATE_IRQCHIP, 0), "KVM_CREATE_IRQCHIP");
    ram = mapped(-1, RAM_SIZE, MAP_PRIVATE | MAP_ANONYMOUS, "the guest's RAM");
    region.userspace_addr = (uint64_t)(uintptr_t)ram;
    checked(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
    vcpu = checked(ioctl(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
    size = checked(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
    shared = mapped(vcpu, (size_t)size, MAP_SHARED, "struct kvm_run");
    set_cpuid(kvm, vcpu);
    enter(vcpu, load(argv[1], ram));

    run(vcpu, shared, WARM_UP);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start);
    run(vcpu, shared, exits);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
    printf("%.1f\n", ((double)(end.tv_sec - start.tv_sec) * 1e9 +
                      (double)(end.tv_nsec - start.tv_nsec)) / (double)exits);
    return 0;
}
