/** Names that a person may be about to type. */
export interface NamesResult {
  readonly nodes: readonly string[];
  /** Those that are followed; where a node answers in time, all of them. */
  readonly tables: readonly { readonly schema: string; readonly name: string }[];
  /** Ids of the open ones. */
  readonly incidents: readonly string[];
}
