/* How the rows of a bag are pooled: names that every family shares. */
#ifndef HOTROW_POOLING_CUH
#define HOTROW_POOLING_CUH

namespace hotrow {

enum class Pooling { Sum, Mean, Max };
enum class Weights { None, Sample, Row };

} // namespace hotrow

#endif
