/* SPDX-License-Identifier: Apache-2.0 */
/* The boot vCPU's state at the 64-bit Linux entry and at the PVH entry. */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include "error.h"
#include "kvm.h"
#include "vcpu.h"
#include "vm.h"

/*
 * One GDT for both: __BOOT_CS and __BOOT_DS are where Linux's boot protocol wants them
 * (Documentation/arch/x86/boot.rst), so the task state segment comes before them. In long
 * mode its descriptor would take two entries, but the guest cannot load a busy one anyway;
 * it is the hidden part, set below, that VM entry checks.
 */
#define SELECTOR_TSS 0x08u
#define SELECTOR_CODE 0x10u
#define SELECTOR_DATA 0x18u
#define GDT_ENTRIES 4u
#define IDT_OFFSET 0x20u

_Static_assert(IDT_OFFSET == GDT_ENTRIES * sizeof(uint64_t), "the IDT follows the GDT");

#define CR0_PE UINT64_C(0x1)
#define CR0_ET UINT64_C(0x10)
#define CR0_PG UINT64_C(0x80000000)
#define CR4_PAE UINT64_C(0x20)
#define EFER_LME UINT64_C(0x100)
#define EFER_LMA UINT64_C(0x400)
#define RFLAGS_RESERVED UINT64_C(0x2) /* bit 1 always reads as set; IF is clear */

#define PAGE UINT64_C(4096)
#define TABLE_ENTRIES 512u
#define DIRECTORIES 4u /* of 1 GiB each */
#define PTE_TABLE UINT64_C(0x3)       /* present, writable */
#define PTE_LARGE_PAGE UINT64_C(0x83) /* and 2 MiB large */
#define LARGE_PAGE_SHIFT 21

static struct kvm_segment segment(uint16_t selector, uint8_t type, bool is_long)
{
    return (struct kvm_segment){
        .limit = UINT32_MAX,
        .selector = selector,
        .type = type,
        .present = 1,
        .s = 1, /* code or data */
        .db = !is_long,
        .l = is_long,
        .g = 1,
    };
}

/* A segment's descriptor (Intel SDM volume 3, 3.4.5), with the base of 0 that all have. */
static uint64_t descriptor(const struct kvm_segment *from)
{
    uint64_t limit = from->g ? from->limit >> 12 : from->limit;
    uint64_t flags = (uint64_t)from->type | (uint64_t)from->s << 4 | (uint64_t)from->dpl << 5 |
                     (uint64_t)from->present << 7 | (uint64_t)from->l << 13 |
                     (uint64_t)from->db << 14 | (uint64_t)from->g << 15;

    return (limit & 0xffff) | flags << 40 | (limit & 0xf0000) << 32;
}

static int write_gdt(kvmshim_vm *vm, const kvmshim_boot *boot, const struct kvm_sregs *sregs,
                     kvmshim_error *err)
{
    const uint64_t tables[GDT_ENTRIES + 1] = {
        [SELECTOR_TSS / 8] = descriptor(&sregs->tr),
        [SELECTOR_CODE / 8] = descriptor(&sregs->cs),
        [SELECTOR_DATA / 8] = descriptor(&sregs->ds),
        [IDT_OFFSET / 8] = 0, /* no gate: an exception before the guest has its own is fatal */
    };

    return kvmshim_memory_write(vm, boot->gdt, tables, sizeof(tables), err);
}

/* What both entries share: flat segments, a TSS, the two tables. */
static void set_segments(struct kvm_sregs *sregs, const kvmshim_boot *boot, bool is_long)
{
    struct kvm_segment data = segment(SELECTOR_DATA, 0x3, false); /* read, write, accessed */

    sregs->cs = segment(SELECTOR_CODE, 0xb, is_long); /* execute, read, accessed */
    sregs->ds = data;
    sregs->es = data;
    sregs->fs = data;
    sregs->gs = data;
    sregs->ss = data;
    /* Busy, with the 0x68 bytes of a 32-bit TSS; PVH asks for base 0 and limit 0x67. */
    sregs->tr = (struct kvm_segment){
        .limit = 0x67,
        .selector = SELECTOR_TSS,
        .type = 0xb,
        .present = 1,
    };
    sregs->gdt = (struct kvm_dtable){
        .base = boot->gdt,
        .limit = GDT_ENTRIES * sizeof(uint64_t) - 1,
    };
    sregs->idt = (struct kvm_dtable){
        .base = boot->gdt + IDT_OFFSET,
        .limit = sizeof(uint64_t) - 1,
    };
}

/* Six pages: one PML4, one PDPT, four directories of 2 MiB pages; 4 GiB, one to one. */
static int write_page_tables(kvmshim_vm *vm, uint64_t at, kvmshim_error *err)
{
    uint64_t table[TABLE_ENTRIES] = {at + PAGE + PTE_TABLE};
    int ret;

    if (at % PAGE != 0)
        return error_set(err, -EINVAL, "page tables at 0x%" PRIx64, at);
    ret = kvmshim_memory_write(vm, at, table, sizeof(table), err);
    if (ret < 0)
        return ret;
    memset(table, 0, sizeof(table));
    for (uint32_t i = 0; i < DIRECTORIES; i++)
        table[i] = at + (2 + i) * PAGE + PTE_TABLE;
    ret = kvmshim_memory_write(vm, at + PAGE, table, sizeof(table), err);
    for (uint32_t i = 0; i < DIRECTORIES && ret == 0; i++) {
        for (uint32_t j = 0; j < TABLE_ENTRIES; j++) {
            uint64_t page = (uint64_t)i * TABLE_ENTRIES + j;

            table[j] = page << LARGE_PAGE_SHIFT | PTE_LARGE_PAGE;
        }
        ret = kvmshim_memory_write(vm, at + (2 + i) * PAGE, table, sizeof(table), err);
    }
    return ret;
}

static int set_state(const struct vcpu *vcpu, struct kvm_regs *regs, struct kvm_sregs *sregs,
                     kvmshim_error *err)
{
    int ret;

    ret = kvm_call(vcpu->fd, KVM_SET_SREGS, sregs);
    if (ret < 0)
        return error_set(err, ret, "KVM_SET_SREGS of vCPU %u", vcpu->index);
    ret = kvm_call(vcpu->fd, KVM_SET_REGS, regs);
    if (ret < 0)
        return error_set(err, ret, "KVM_SET_REGS of vCPU %u", vcpu->index);
    return 0;
}

/* Start from the reset state, of which KVM knows more than we change (the APIC base). */
static int enter(kvmshim_vm *vm, uint32_t index, const kvmshim_boot *boot, struct kvm_regs *regs,
                 bool is_long, kvmshim_error *err)
{
    struct kvm_sregs sregs;
    struct vcpu *vcpu;
    int ret;

    ret = vcpu_get_stopped(vm, index, &vcpu, err);
    if (ret < 0)
        return ret;
    ret = kvm_call(vcpu->fd, KVM_GET_SREGS, &sregs);
    if (ret < 0)
        return error_set(err, ret, "KVM_GET_SREGS of vCPU %u", index);
    set_segments(&sregs, boot, is_long);
    sregs.cr0 = CR0_PE | CR0_ET;
    sregs.cr4 = 0;
    if (is_long) {
        sregs.cr0 |= CR0_PG;
        sregs.cr3 = boot->page_tables;
        sregs.cr4 = CR4_PAE;
        sregs.efer = EFER_LME | EFER_LMA;
        ret = write_page_tables(vm, boot->page_tables, err);
        if (ret < 0)
            return ret;
    }
    ret = write_gdt(vm, boot, &sregs, err);
    if (ret < 0)
        return ret;
    return set_state(vcpu, regs, &sregs, err);
}

int kvmshim_vcpu_enter_linux64(kvmshim_vm *vm, uint32_t index, const kvmshim_boot *boot,
                               kvmshim_error *err)
{
    struct kvm_regs regs = {
        .rip = boot->entry,
        .rsi = boot->argument,
        .rsp = boot->stack,
        .rbp = boot->stack,
        .rflags = RFLAGS_RESERVED,
    };

    return enter(vm, index, boot, &regs, true, err);
}

int kvmshim_vcpu_enter_pvh(kvmshim_vm *vm, uint32_t index, const kvmshim_boot *boot,
                           kvmshim_error *err)
{
    struct kvm_regs regs = {
        .rip = boot->entry,
        .rbx = boot->argument,
        .rsp = boot->stack,
        .rflags = RFLAGS_RESERVED,
    };

    return enter(vm, index, boot, &regs, false, err);
}
