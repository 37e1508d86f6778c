// What can go wrong, in words that say what to do.

/** Something a person can mend: what is wrong, and what to do about it. */
export class Problem extends Error {
  /**
   * @param {string} title What is wrong, in a few words.
   * @param {string} advice What to do.
   */
  constructor(title, advice) {
    super(`${title}. ${advice}`);
    this.title = title;
    this.advice = advice;
  }
}

const CAMERA = {
  NotAllowedError: [
    'The camera is not allowed here',
    'Allow it for this page in the browser’s address bar, then start the camera again.',
  ],
  NotFoundError: [
    'No camera was found',
    'Connect one, or choose a video file or a recorded clip instead.',
  ],
  NotReadableError: [
    'The camera is in use',
    'Another program holds it. Close that program, then start the camera again.',
  ],
};

/** A Problem for what getUserMedia refused. */
export function cameraProblem(error) {
  const found = CAMERA[error.name];
  return found ? new Problem(...found) : new Problem('The camera cannot be opened', String(error));
}

/** A Problem for anything that was thrown. */
export function asProblem(error) {
  if (error instanceof Problem) return error;
  return new Problem('Something failed', error?.message ?? String(error));
}
