/** The files that a model is read from, so that none is written over. */
import { stat } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { fileError } from '../errors.ts';
import { DCP_METADATA } from '../formats/dcp/dcp.ts';
import { identify } from '../formats/file-kind.ts';
import { shardFiles } from '../formats/sharded-index.ts';
import { findDescription } from './description/find-description.ts';

/**
 * The files and folders that `loadArchitecture` reads for `path`: a description with its vocabularies, a checkpoint, its index
 * and its shards. A folder stands for all files in it.
 * @throws as loadArchitecture, for files that are not there and for what cannot be read of descriptions and indexes.
 */
export async function modelFiles(path: string): Promise<string[]> {
  const found = await findDescription(path);
  if (found === undefined) return checkpointFiles(path);
  return [path, found.file, ...found.vocabularies, ...(await checkpointFiles(found.checkpoint))];
}

async function checkpointFiles(path: string): Promise<string[]> {
  const info = await stat(path).catch((cause) => {
    throw fileError(path, cause);
  });
  if (info.isDirectory()) return [path];
  if (basename(path) === DCP_METADATA) return [path, dirname(path)];
  const { kind } = await identify(path);
  return kind === 'safetensors-index' ? [path, ...(await shardFiles(path))] : [path];
}
