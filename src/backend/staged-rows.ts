/** New values for rows that have reached the device: what is left of an update is short, and cannot fail for what was given. */
export interface StagedRows extends Disposable {
  /** Replaces the rows, while nobody reads any. */
  apply(): Promise<void>;
}
