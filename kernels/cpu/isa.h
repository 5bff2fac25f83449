/*
 * A file that includes this is compiled once per instruction set, with -DHR_ISA=0, 1 or 2 (HR_ISA_… of hotrow_cpu.h,
 * as a number because #if cannot see an enum) and that set's -m flags. HR_NAME(x) gives each copy's external functions
 * names of their own.
 */
#ifndef HOTROW_ISA_H
#define HOTROW_ISA_H

#ifndef HR_ISA
#error "compile with -DHR_ISA=0 (portable), 1 (AVX2) or 2 (AVX-512)"
#elif HR_ISA == 2
#define HR_NAME(base) base##_avx512
#elif HR_ISA == 1
#define HR_NAME(base) base##_avx2
#else
#define HR_NAME(base) base##_portable
#endif

#endif
