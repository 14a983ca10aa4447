/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Start of every tiny guest: PVH entry (32-bit, paging off), then long mode on page tables
 * that are part of the image, so that not one instruction is spent building them: where
 * KVM emulates kernel code, an instruction costs two microseconds.
 */

    .set CODE64, 0x08
    .set CODE32, 0x10
    .set DATA, 0x18

/* The PVH entry point: Xen's note 18, XEN_ELFNOTE_PHYS32_ENTRY. */
    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 8, 18
    .asciz "Xen"
    .quad start32

    .section .text.start, "ax"
    .code32
    .global start32
start32:
    cli
    cld
    movl %ebx, %edi /* start_info: the first argument of guest_main() */
    movl $boot_stack_top, %esp
    movl $start64, %esi
    jmp enter_long_mode

/* Where the trampoline of an application processor ends up: its stack is the next free. */
ap_start32:
    movl $DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl $1, %edi
    lock xaddl %edi, ap_ticket /* from 1: the first argument of ap_main() */
    movl %edi, %esp
    shll $9, %esp
    addl $ap_stacks, %esp
    movl $ap_start64, %esi

/* Continue at esi in 64-bit mode; keeps edi and esp. */
enter_long_mode:
    lgdtl gdt_pointer
    movl %cr4, %eax
    orl $0x20, %eax /* PAE */
    movl %eax, %cr4
    movl $pml4, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx /* EFER */
    rdmsr
    orl $0x100, %eax /* LME */
    wrmsr
    movl %cr0, %eax
    orl $0x80000001, %eax /* PG, PE */
    movl %eax, %cr0
    ljmpl $CODE64, $1f

    .code64
1:
    movl $DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl %esi, %esi
    jmp *%rsi

start64:
    call guest_main
    jmp halt

ap_start64:
    call ap_main
halt:
    cli
    hlt
    jmp halt

/*
 * What a startup IPI starts, copied to a page below 1 MiB: 16-bit code that knows only its
 * own segment.
 */
    .code16
    .global ap_trampoline, ap_trampoline_end
ap_trampoline:
    cli
    lgdtl %cs:(ap_gdt_pointer - ap_trampoline)
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $CODE32, $ap_start32
    .balign 4
ap_gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt
ap_trampoline_end:

    .weak ap_main

    .section .data, "aw"
    .balign 8
gdt:
    .quad 0
    .quad 0x00af9b000000ffff /* CODE64 */
    .quad 0x00cf9b000000ffff /* CODE32 */
    .quad 0x00cf93000000ffff /* DATA */
gdt_end:
gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt
    .balign 4
ap_ticket:
    .long 1

/* The first 4 GiB 1:1 in pages of 2 MiB: present, writable, accessed, dirty. */
    .balign 4096
pml4:
    .quad pdpt + 0x23
    .fill 511, 8, 0
pdpt:
    .quad page_directories + 0x0023
    .quad page_directories + 0x1023
    .quad page_directories + 0x2023
    .quad page_directories + 0x3023
    .fill 508, 8, 0
page_directories:
    .set address, 0
    .rept 2048
    .quad address + 0xe3
    .set address, address + 0x200000
    .endr

    .section .bss, "aw", @nobits
    .balign 16
    .fill 4096
boot_stack_top:
ap_stacks: /* 512 bytes each; number 1 ends one stack size after the label */
    .fill 512 * 256

    .section .note.GNU-stack, "", @progbits
