/** A reason code in words. What it means for a tunnel, and what to do, is the server's explanation of both ends. */

export function reasonWords(code: string): string {
  const words = code.replaceAll('-', ' ')
  return words.charAt(0).toUpperCase() + words.slice(1)
}
