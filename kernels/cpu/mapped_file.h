/* What faults.c and the operators ask of mapped files; hr_map_file and its contract are in hotrow_cpu.h. */
#ifndef HOTROW_MAPPED_FILE_H
#define HOTROW_MAPPED_FILE_H

#include "hotrow_cpu.h"

/* If a file was mapped where a fault came from: puts zeros there, marks the file as changed, and returns 1. For a handler. */
int hr_replace_lost_pages(uintptr_t address);

/* Whether a file that the rows of these tables lie in was changed; asked when they have been read. */
int hr_have_files_changed(const hr_table *tables, int64_t count);

#endif
