/** Works out what belongs to an object once, however often it is asked for. */
export function onceEach<K extends object, V>(work: (of: K) => V): (of: K) => V {
  const known = new Map<K, V>();
  return (of) => {
    const value = known.get(of) ?? work(of);
    known.set(of, value);
    return value;
  };
}
