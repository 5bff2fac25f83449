/* What the host hands to the fused kernel (fused_bags.cuh). Every field of every struct is 8 bytes wide. */
#ifndef HOTROW_FUSED_PARAMS_CUH
#define HOTROW_FUSED_PARAMS_CUH

#include "rows.cuh"

namespace hotrow {

struct alignas(16) FusedTable {
  const void *rows;         /* [row_count], each Row::stride(dim) bytes; then, where Row::is_scaled, [row_count] headers */
  int64 row_count;
  const void *indices;      /* [lookups] */
  int64 lookups;            /* < 2^31 */
  const void *offsets;      /* [offset_count] */
  int64 offset_count;       /* as many as the table has bags, or one more */
  const float *weights;     /* [lookups] */
  const float *row_weights; /* [row_count] */
  int64 padding_index;
  int64 column;             /* where the table starts in the output, or in the users' */
  int64 kind;
  int64 unused;
};

/* A part of a long bag and one tile of its rows: the work of a block. */
struct alignas(16) FusedSegment {
  int64 table;
  int64 bag;
  int64 tile;
  int64 begin, end;         /* positions in the table's indices */
  int64 slot;               /* where its sum goes: partials of the bag and tile lie side by side */
  int64 first_slot, slots;  /* those of the bag and tile */
  int64 arrivals;           /* counts them in: an element of params.arrivals */
  int64 unused;
};

struct FusedBagsParams {
  const FusedTable *tables;     /* [table_count] */
  int64 batch;
  int64 blocks_per_table;       /* blocks: segment_count of segments, then these for each table */
  int64 bags_per_group;
  void *output;                 /* [batch, output_stride] of Output::Bits */
  int64 output_stride;
  uint64 *findings;             /* of Checking::Stop; zeroed by the caller */
  int64 split;                  /* bags of more lookups are segments' work */
  const FusedSegment *segments; /* [segment_count] */
  int64 segment_count;
  float *partials;              /* [slots, partial_width] */
  int64 partial_width;          /* floats of a slot: the widest tile, and one for the count */
  uint32 *arrivals;             /* zeroed by the caller, and by the kernel when it is done */
  int64 users;                  /* bags of tables with a bag per user … */
  void *user_output;            /* … [users, user_output_stride] of Output::Bits: their pooled rows */
  int64 user_output_stride;
};

/* Of variants that write pooled rows in 8 bits too. A struct of its own: the others stay as compilers make them of fewer parameters. */
struct RoundedBagsParams : FusedBagsParams {
  unsigned char *rounded;      /* [batch, rounded_stride] e4m3 of output · rounded_inverse, from the output's first column on */
  int64 rounded_stride;
  int64 rounded_inverse;       /* the bits of a float32 */
  unsigned char *user_rounded; /* [users, user_output_stride], the same of user_output */
};

} // namespace hotrow

#endif
