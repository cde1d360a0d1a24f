#include "textflag.h"

// One word of a code against its four planes of levels, POPCNT without the check that math/bits makes each time.
#define WORD(i) \
	MOVQ (i*8)(SI), AX \
	MOVQ (i*32+0)(BX), R12 \
	MOVQ (i*32+8)(BX), R13 \
	MOVQ (i*32+16)(BX), R15 \
	ANDQ AX, R12 \
	ANDQ AX, R13 \
	ANDQ AX, R15 \
	ANDQ (i*32+24)(BX), AX \
	POPCNTQ R12, R12 \
	POPCNTQ R13, R13 \
	POPCNTQ R15, R15 \
	POPCNTQ AX, AX \
	ADDQ R12, R8 \
	ADDQ R13, R9 \
	ADDQ R15, R10 \
	ADDQ AX, R11

// func weighPOPCNT(codes, levels *uint64, sums *int32, vectors, units int)
TEXT ·weighPOPCNT(SB), NOSPLIT, $0-40
	MOVQ codes+0(FP), SI
	MOVQ levels+8(FP), DI
	MOVQ sums+16(FP), DX
	MOVQ vectors+24(FP), CX
	TESTQ CX, CX
	JZ   done

vector:
	XORQ R8, R8
	XORQ R9, R9
	XORQ R10, R10
	XORQ R11, R11
	MOVQ DI, BX
	MOVQ units+32(FP), R14

unit:
	WORD(0)
	WORD(1)
	WORD(2)
	WORD(3)
	WORD(4)
	WORD(5)
	ADDQ $48, SI
	ADDQ $192, BX
	DECQ R14
	JNZ  unit
	LEAQ (R8)(R9*2), R8
	LEAQ (R10)(R11*2), R10
	LEAQ (R8)(R10*4), R8
	MOVL R8, (DX)
	ADDQ $4, DX
	DECQ CX
	JNZ  vector

done:
	RET

// func prefetch(p unsafe.Pointer)
// Two lines of the cache: where a code begins, and where it may end.
TEXT ·prefetch(SB), NOSPLIT, $0-8
	MOVQ        p+0(FP), AX
	PREFETCHT0  (AX)
	PREFETCHT0  64(AX)
	RET

// Sums the eight numbers of Y0 into X0.
#define TOTAL \
	VADDPS Y1, Y0, Y0 \
	VADDPS Y3, Y2, Y2 \
	VADDPS Y2, Y0, Y0 \
	VEXTRACTF128 $1, Y0, X1 \
	VADDPS X1, X0, X0 \
	VHADDPS X0, X0, X0 \
	VHADDPS X0, X0, X0

// func dotFMA(a, b *float32, n int) float32
// n is a multiple of 32.
TEXT ·dotFMA(SB), NOSPLIT, $0-28
	MOVQ   a+0(FP), SI
	MOVQ   b+8(FP), DI
	MOVQ   n+16(FP), CX
	VXORPS Y0, Y0, Y0
	VXORPS Y1, Y1, Y1
	VXORPS Y2, Y2, Y2
	VXORPS Y3, Y3, Y3

product:
	VMOVUPS     (SI), Y4
	VMOVUPS     32(SI), Y5
	VMOVUPS     64(SI), Y6
	VMOVUPS     96(SI), Y7
	VFMADD231PS (DI), Y4, Y0
	VFMADD231PS 32(DI), Y5, Y1
	VFMADD231PS 64(DI), Y6, Y2
	VFMADD231PS 96(DI), Y7, Y3
	ADDQ        $128, SI
	ADDQ        $128, DI
	SUBQ        $32, CX
	JNZ         product
	TOTAL
	VMOVSS      X0, ret+24(FP)
	VZEROUPPER
	RET

// func distanceFMA(a, b *float32, n int) float32
// n is a multiple of 32.
TEXT ·distanceFMA(SB), NOSPLIT, $0-28
	MOVQ   a+0(FP), SI
	MOVQ   b+8(FP), DI
	MOVQ   n+16(FP), CX
	VXORPS Y0, Y0, Y0
	VXORPS Y1, Y1, Y1
	VXORPS Y2, Y2, Y2
	VXORPS Y3, Y3, Y3

difference:
	VMOVUPS     (SI), Y4
	VMOVUPS     32(SI), Y5
	VMOVUPS     64(SI), Y6
	VMOVUPS     96(SI), Y7
	VSUBPS      (DI), Y4, Y4
	VSUBPS      32(DI), Y5, Y5
	VSUBPS      64(DI), Y6, Y6
	VSUBPS      96(DI), Y7, Y7
	VFMADD231PS Y4, Y4, Y0
	VFMADD231PS Y5, Y5, Y1
	VFMADD231PS Y6, Y6, Y2
	VFMADD231PS Y7, Y7, Y3
	ADDQ        $128, SI
	ADDQ        $128, DI
	SUBQ        $32, CX
	JNZ         difference
	TOTAL
	VMOVSS      X0, ret+24(FP)
	VZEROUPPER
	RET
